"""From a folder of images and masks to a problem's configuration."""
