"""Root file systems for containers: directories of the host, and images.

references   what an image's reference names
manifests    what its documents say: pure
archives     images in archives and layout directories
registry     images in registries
unpacking    a layer's archive becomes a directory that overlayfs can take
store        ROOT/images: what is unpacked already, which container uses it
images       provides an image for all who wait for it, in a thread of its own
settings     what the image says about how to run it, where the spec does not
layers       a container's own copy of it: overlay or plain copy
"""
