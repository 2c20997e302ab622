"""Reading images as people have them: `read_image` and what it gives.

Rasters (PNG, JPEG, BMP, GIF, WebP, AVIF, JPEG 2000, PNM) through Pillow, plain and OME TIFF through
tifffile, whole slides (SVS, NDPI, MRXS, ...) through OpenSlide. Only pixels and the pixel size
leave this package: labels, dates, names and every other piece of metadata stay in the file.
"""

from tools.image.reader import MAX_PIXELS, MIN_SIDE, LoadedImage, MppSource, pyramid_of, read_image

__all__ = ["MAX_PIXELS", "MIN_SIDE", "LoadedImage", "MppSource", "pyramid_of", "read_image"]
