"""Images in a registry, by its HTTP API (OCI distribution-spec v1.1, Docker Registry HTTP API V2).

Invariants: what is used has the digest that was asked for, by the reference or by the manifest; every wait is limited,
and given up when nobody wants the image any more; what an answer takes of memory and disk is bounded, and no
compression of it undone here; credentials go to their own registry and to the token service that it names, over TLS
but for registries that plain HTTP is allowed for, and never along with a redirect to another host. In threads: the
client is `requests`, which the docker SDK brings along.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from reconciler.runtime.provisioner import manifests
from reconciler.runtime.provisioner.archives import Described, Layer, digest_of, layers, verified
from reconciler.runtime.provisioner.manifests import BadImage, Blob
from reconciler.runtime.provisioner.references import DOCKER_HUB, Remote

if TYPE_CHECKING:
    import requests

_TIMEOUT = (10.0, 30.0)  # seconds: to connect, between two pieces of an answer
_ATTEMPTS, _OF_A_MIRROR = 5, 2
_CHUNK = 1 << 18
_SAY_SECONDS = 1.0
_MIB = 1 << 20
_POLL = 0.1
_LONGEST = 1000
_REDIRECTS = 5
_LAYER = 64 << 30  # bytes of one, as it is kept
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_HUB_HOST = "registry-1.docker.io"

Check = Callable[[], None]
Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Access:
    """insecure: registries, as references name them, that are spoken to in plain HTTP; loopback always is. auth: a file
    in the form of Docker's config.json. mirrors: REGISTRY=MIRROR, asked in this order before the registry itself."""

    insecure: Collection[str] = ()
    auth: str | None = None
    mirrors: Sequence[str] = ()

    def places(self, registry: str) -> list[str]:
        """Where its images are, in the order of asking."""
        pairs = (each.partition("=") for each in self.mirrors)
        return [*(mirror for name, _, mirror in pairs if name == registry), registry]

    def scheme(self, registry: str) -> str:
        return "http" if registry in self.insecure or _loopback(registry) else "https"

    def credentials(self, registry: str) -> str | None:
        """User, colon and password, in base64. Raises OSError, BadImage for a file that cannot be read."""
        if self.auth is None:
            return None
        found = manifests.document(Path(self.auth).read_bytes(), self.auth).get("auths")
        keys = [registry, *(["https://index.docker.io/v1/", _HUB_HOST] if registry == DOCKER_HUB else [])]
        for key in keys:
            entry = found.get(key) if isinstance(found, Mapping) else None
            if isinstance(entry, Mapping) and isinstance(entry.get("auth"), str):
                with contextlib.suppress(binascii.Error):
                    base64.b64decode(entry["auth"], validate=True)
                    return str(entry["auth"])
                raise BadImage(f"{self.auth}: the credentials for {key} are not base64")
        return None


def _loopback(registry: str) -> bool:
    host = urlsplit(f"//{registry}").hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@contextlib.contextmanager
def opened(remote: Remote, access: Access, directory: Path, say: Say, check: Check) -> Iterator[Mirrored]:
    """directory: for what is being fetched."""
    from reconciler.runtime.provisioner.session import Session

    with Session() as session:
        found = [replace(remote, registry=place) for place in access.places(remote.registry)]
        mirrors = [Registry(each, access, session, say, check, _OF_A_MIRROR) for each in found[:-1]]
        yield Mirrored([*mirrors, Registry(remote, access, session, say, check)], directory)


class _Transient(Exception):
    """Worth another attempt."""


class Mirrored:
    """An image in its mirrors and its registry. The first that can say what it is does; layers, known by their digests,
    may come from each of those after."""

    def __init__(self, places: Sequence[Registry], directory: Path) -> None:
        self._places, self._directory = list(places), directory

    def describe(self) -> Described:
        while True:
            try:
                return self._places[0].describe()
            except BadImage as error:
                self._next(error)

    def _next(self, error: BadImage) -> None:
        """That one is not asked again."""
        if len(self._places) == 1:
            raise error
        place = self._places.pop(0)
        place.say(f"{error}; asking {self._places[0].remote.registry}")

    @contextlib.contextmanager
    def open(self, layer: Layer) -> Iterator[IO[bytes]]:
        assert layer.blob is not None
        path = self._directory / layer.blob.hex
        try:
            with path.open("w+b") as file:
                self._fetch(layer.blob, file)
                file.seek(0)
                yield file
        finally:
            path.unlink(missing_ok=True)

    def _fetch(self, blob: Blob, file: IO[bytes]) -> None:
        while True:
            try:
                self._places[0].fetch(blob, file)
                if len(self._places) > 1:  # else whoever unpacks it sees to that
                    file.seek(0)
                    found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]
                    if found != blob.digest:
                        raise BadImage(f"{self._places[0].remote.registry}: {blob.digest} has another content there")
                return
            except BadImage as error:
                self._next(error)
                file.seek(0)
                file.truncate()


@dataclass
class Registry:
    """One image in one place. attempts: at each document and layer. token: what to send as Authorization, once it was
    asked for."""

    remote: Remote
    access: Access
    session: requests.Session
    say: Say
    check: Check
    attempts: int = _ATTEMPTS
    token: str | None = field(default=None, repr=False)

    # ---- what it has

    def describe(self) -> Described:
        machine, remote = manifests.architecture(), self.remote
        data = self._manifest(remote.which)
        digest = digest_of(data)
        found = manifests.document(data, "the manifest")
        if manifests.is_index(found):
            chosen = manifests.choose(found, None, machine)
            found = manifests.document(self._manifest(chosen.digest), "the manifest")
        config, blobs = manifests.parts(found)
        wanted = manifests.document(self._small(config), "the configuration")
        described, diff_ids = manifests.config(wanted, machine)
        return Described(digest, described, layers(diff_ids, blobs))

    def _manifest(self, which: str) -> bytes:
        headers = {"Accept": ", ".join((*manifests.INDEXES, *manifests.MANIFESTS))}
        data = self._repeated(lambda: self._document(f"manifests/{which}", headers))
        return verified(data, which, "the manifest") if which.startswith("sha256:") else data

    def _small(self, blob: Blob) -> bytes:
        data = self._repeated(lambda: self._document(f"blobs/{blob.digest}", {}))
        return verified(data, blob.digest, "the configuration")

    def _document(self, path: str, headers: Mapping[str, str]) -> bytes:
        with self._get(path, headers) as answer:
            return self._whole(answer, path)

    def _whole(self, answer: requests.Response, what: str) -> bytes:
        data = bytearray()
        for piece in self._pieces(answer):
            data += piece
            if len(data) > manifests.LARGEST:
                raise BadImage(f"{what} is larger than {manifests.LARGEST} bytes")
        return bytes(data)

    def _pieces(self, answer: requests.Response) -> Iterator[bytes]:
        """What one read brings, however little, so that a server that sends slowly holds nobody up."""
        while piece := answer.raw.read1(_CHUNK, decode_content=False):
            self.check()
            yield piece

    def _keep(self, blob: Blob, file: IO[bytes], piece: bytes) -> None:
        try:
            file.write(piece)
        except OSError as error:
            raise OSError(f"layer {blob.digest} cannot be written: {error.strerror}") from error

    def fetch(self, blob: Blob, file: IO[bytes]) -> None:
        """Into an empty file. Where an attempt broke off the next one goes on, if the registry can."""
        told = 0.0
        if blob.size > _LAYER:
            raise BadImage(f"layer {blob.digest} has {blob.size} bytes, more than {_LAYER >> 30} GiB")

        def attempt() -> None:
            nonlocal told
            begin = file.tell()
            ranged = {"Range": f"bytes={begin}-"} if begin else {}
            with self._get(f"blobs/{blob.digest}", ranged) as answer:
                if begin and answer.status_code != 206:
                    file.seek(0)
                    file.truncate()
                for piece in self._pieces(answer):
                    self._keep(blob, file, piece)
                    if file.tell() > blob.size:
                        raise BadImage(f"layer {blob.digest} is larger than its manifest says, {blob.size} bytes")
                    if time.monotonic() - told > _SAY_SECONDS:
                        told = time.monotonic()
                        self.say(f"{file.tell() // _MIB} of {-(-blob.size // _MIB)} MiB")
            if file.tell() != blob.size:
                raise _Transient(f"{blob.digest}: the answer ended after {file.tell()} of {blob.size} bytes")

        self._repeated(attempt)

    # ---- asking

    def _repeated(self, attempt: Callable[[], T]) -> T:
        """Raises BadImage with what the last attempt failed with."""
        import requests
        import urllib3

        wait = 1.0
        for left in reversed(range(self.attempts)):
            self.check()
            try:
                return attempt()
            except (_Transient, requests.RequestException, urllib3.exceptions.HTTPError) as error:
                if not left or isinstance(error, requests.exceptions.SSLError | ValueError):  # bad addresses are those
                    raise BadImage(f"{self.remote.registry}: {_said(error)}") from None
                self.say(f"{_said(error)}; tried again in {wait:.0f} s")
            self._pause(wait)
            wait *= 2
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(_POLL)

    def _get(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        """Raises _Transient for what may pass, BadImage for what will not."""
        remote = self.remote
        host = _HUB_HOST if remote.registry == DOCKER_HUB else remote.registry
        url = f"{self.access.scheme(remote.registry)}://{host}/v2/{remote.repository}/{path}"
        answer = self._ask(url, headers)
        if answer.status_code == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            answer.close()
            self.token = self._authorization(challenge)
            answer = self._ask(url, headers)
        if answer.status_code in (200, 206):
            return answer
        status, why = answer.status_code, _errors(self._pieces(answer))
        answer.close()
        del answer  # what is raised holds this frame, and that would hold the connection
        if status == 429 or status >= 500:
            raise _Transient(f"{status} {why}")
        raise BadImage(f"{remote.registry} answers {status} to {path}{why and f': {why}'}")

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        host = urlsplit(url).netloc
        for _ in range(1 + _REDIRECTS):
            own = {"Authorization": self.token} if self.token and urlsplit(url).netloc == host else {}
            answer = self._sent(url, {**headers, **own})
            if not answer.is_redirect:
                return answer
            url = self._led(url, answer.headers["Location"])
            answer.close()
        raise BadImage(f"{self.remote.registry} redirects more than {_REDIRECTS} times")

    def _sent(self, url: str, headers: Mapping[str, str], wanted: Mapping[str, str] | None = None) -> requests.Response:
        headers = {"Accept-Encoding": "identity", **headers}
        return self.session.get(
            url, params=wanted, headers=headers, timeout=_TIMEOUT, stream=True, allow_redirects=False
        )

    def _led(self, url: str, place: str) -> str:
        """Where it leads from there. Raises BadImage for where nobody goes."""
        try:
            url = urljoin(url, place)
            parts = urlsplit(url)
            plain = parts.scheme == "http" and self.access.scheme(parts.netloc) != "http"
        except ValueError:
            raise BadImage(f"{self.remote.registry} leads to {place[:_LONGEST]!r}, which is no address") from None
        if parts.scheme not in ("http", "https"):
            raise BadImage(f"{self.remote.registry} leads to {url[:_LONGEST]!r}, which is not followed")
        if plain:
            raise BadImage(f"{self.remote.registry} leads to {parts.netloc} in plain HTTP; see --insecure-registries")
        return url

    def _authorization(self, challenge: str) -> str:
        """After a refusal: a token from the service that it names (RFC 6750, Docker's token specification)."""
        credentials = self.access.credentials(self.remote.registry)
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and credentials:
            return f"Basic {credentials}"
        given = dict(_PARAMETER.findall(rest))
        if kind.lower() != "bearer" or "realm" not in given:
            raise BadImage(f"{self.remote.registry} wants credentials; see --registry-auth")
        realm = self._led("", given["realm"])
        wanted = {key: given[key] for key in ("service", "scope") if key in given}
        wanted.setdefault("scope", f"repository:{self.remote.repository}:pull")
        own = {"Authorization": f"Basic {credentials}"} if credentials else {}
        with self._sent(realm, own, wanted) as answer:
            if answer.status_code != 200:
                raise BadImage(f"{self.remote.registry}: its token service answers {answer.status_code}")
            data = self._whole(answer, "the token")
        found = manifests.document(data, "the token")
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not token.isprintable():
            raise BadImage(f"{self.remote.registry}: its token service gives no token")
        return f"Bearer {token}"


def _errors(pieces: Iterator[bytes]) -> str:
    """What the registry says of it, as the specification has it."""
    data = bytearray()
    try:
        while len(data) < _LONGEST and (piece := next(pieces, b"")):
            data += piece
        found: Any = json.loads(data)
        said = [f"{each.get('code')} {each.get('message')}" for each in found["errors"]]
    except Exception:  # noqa: BLE001 - whatever else it is, it explains nothing
        return ""
    return "; ".join(said)[:_LONGEST]


def _said(error: Exception) -> str:
    """The innermost cause: what wraps it repeats it at length."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None and inner is not seen:
        seen = inner
    return str(seen) or type(seen).__name__
