/* The init of a container, as small as it can be: what stays beside a payload for as long as that lives.
 *
 *     launcher/child.py ─▶ fork payload ─▶ credentials ─▶ execve of this, from sealed memory (static_init.py)
 *
 * It does what `_supervise` of launcher/child.py does where there is no such program, and is to be kept like it:
 * passes signals on to the payload, reaps, writes the payload's raw wait status to a descriptor that was opened
 * before the launch, and ends whatever is left. It is pid 1 of a pid namespace, or a subreaper in somebody else's.
 *
 * What it is told, all in its environment (its arguments are what `ps` shows):
 *     PAYLOAD     pid of the payload; 0: a holder of namespaces, which ends when it is told to
 *     EXIT        descriptor for the status, written as decimal number and newline
 *     READY       descriptor that is closed once this process is as it shall stay
 *     UNDUMPABLE  1: nobody in the container may read this process
 * All signals are blocked, standard streams are /dev/null, and no other descriptor is open.
 *
 * No C library: there is none that one could count on to be linked statically, and its start would cost more memory
 * than all of this. The headers are the kernel's own. */

#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/wait.h>

#define END_NOW 64 /* SIGRTMAX, see launcher/child.py */

#if defined(__x86_64__)
__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call run\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
        "_start: mov x29, #0\n"
        "        mov x30, #0\n"
        "        mov x0, sp\n"
        "        bl run\n");
#else
#error "no system calls are written down for this architecture"
#endif

/* A system call; the kernel's answer as it is, -errno for a failure. */
static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
    long answer;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return answer;
#else
    register long answer __asm__("x0") = a;
    register long second __asm__("x1") = b;
    register long third __asm__("x2") = c;
    register long fourth __asm__("x3") = d;
    register long what __asm__("x8") = number;
    __asm__ volatile("svc 0" : "+r"(answer) : "r"(second), "r"(third), "r"(fourth), "r"(what) : "memory");
    return answer;
#endif
}

/* The number behind `key` (which ends with "=") in the environment; -1 where there is none. */
static long told(char **environment, const char *key)
{
    for (; *environment; environment++) {
        const char *at = *environment, *wanted = key;
        while (*wanted && *at == *wanted)
            at++, wanted++;
        if (*wanted)
            continue;
        long number = 0;
        for (; *at >= '0' && *at <= '9'; at++)
            number = number * 10 + (*at - '0');
        return number;
    }
    return -1;
}

/* A disk that is full, or a reader that has gone, must not keep an init from ending the rest. */
static void write_down(long fd, unsigned int status)
{
    char text[12];
    char *at = text + sizeof text;
    *--at = '\n';
    do
        *--at = (char)('0' + status % 10);
    while (status /= 10);
    call(__NR_write, fd, (long)at, text + sizeof text - at, 0);
}

/* Reap all that can be. Whether the payload, whose status is then written down, was among them. */
static int reap(long payload, long exit_fd)
{
    int status, found = 0;
    long pid;
    while ((pid = call(__NR_wait4, -1, (long)&status, WNOHANG, 0)) > 0)
        if (pid == payload) {
            write_down(exit_fd, (unsigned int)status);
            found = 1;
        }
    return found;
}

/* SIGKILL for each direct child. Whether they could be listed: there may be no /proc to list them. */
static int kill_children(void)
{
    char text[512];
    long fd = call(__NR_openat, AT_FDCWD, (long)"/proc/thread-self/children", O_RDONLY | O_CLOEXEC, 0);
    long size, pid = 0;
    if (fd < 0)
        return 0;
    while ((size = call(__NR_read, fd, (long)text, sizeof text, 0)) > 0)
        for (const char *at = text; at < text + size; at++) {
            if (*at >= '0' && *at <= '9') {
                pid = pid * 10 + (*at - '0');
            } else if (pid) { /* each is followed by a space */
                call(__NR_kill, pid, SIGKILL, 0, 0);
                pid = 0;
            }
        }
    call(__NR_close, fd, 0, 0, 0);
    return 1;
}

/* Kill and reap everything below. This is a subreaper, so whatever double-forked away is here too. What cannot be
 * listed is left to the end of the pid namespace or to the keeper, which goes by the cgroup. */
static void end_the_rest(long payload, long exit_fd)
{
    int status;
    long pid;
    while (kill_children()) {
        pid = call(__NR_wait4, -1, (long)&status, 0, 0);
        if (pid < 0)
            return;
        if (pid == payload)
            write_down(exit_fd, (unsigned int)status);
    }
}

/* Of its capabilities KILL stays, if it had that: an exec gave root back what its bounding set has, and let another
 * user keep it as ambient. */
static void let_go(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (call(__NR_capget, (long)&header, (long)sets, 0, 0) < 0)
        return;
    for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
        sets[word].permitted &= word ? 0 : 1u << CAP_KILL;
        sets[word].effective = sets[word].permitted;
        sets[word].inheritable = 0;
    }
    call(__NR_capset, (long)&header, (long)sets, 0, 0);
}

static void supervise(long payload, long exit_fd)
{
    unsigned long all = ~0ul;
    call(__NR_rt_sigprocmask, SIG_BLOCK, (long)&all, 0, sizeof all); /* 32 and 33 too */
    for (;;) {
        long number = call(__NR_rt_sigtimedwait, (long)&all, 0, 0, sizeof all);
        if (number < 0)
            continue; /* stopped and continued */
        if (number == SIGCHLD) {
            if (reap(payload, exit_fd))
                return;
        } else if (number == END_NOW) {
            end_the_rest(payload, exit_fd);
            return;
        } else if (payload) {
            call(__NR_kill, payload, number, 0, 0);
        } else if (number == SIGTERM || number == SIGINT || number == SIGQUIT || number == SIGHUP) {
            write_down(exit_fd, (unsigned int)number);
            return;
        }
    }
}

/* stack: as the kernel leaves it: argc, argv, NULL, environment, NULL. */
__attribute__((used, noreturn)) void run(long *stack)
{
    char **environment = (char **)(stack + 1 + stack[0] + 1);
    long payload = told(environment, "PAYLOAD="), exit_fd = told(environment, "EXIT=");
    long ready = told(environment, "READY=");
    if (told(environment, "UNDUMPABLE=") > 0)
        call(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0);
    call(__NR_prctl, PR_SET_NAME, (long)"init", 0, 0);
    let_go();
    if (ready >= 0)
        call(__NR_close, ready, 0, 0, 0);
    if (payload >= 0 && exit_fd >= 0) { /* else it was only tried out */
        supervise(payload, exit_fd);
        end_the_rest(0, exit_fd);
    }
    for (;;)
        call(__NR_exit_group, 0, 0, 0, 0);
}
