"""The product's image, built without a container engine: Debian's packages, pinned wheels, and our own wheel on top.

from tests.lab.image import build
image = build.countersign_image()
image.push(registry.repository("countersign/countersign"), "v1"); image.oci_archive(path); image.unpack(folder)
"""
