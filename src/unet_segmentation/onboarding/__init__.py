"""From a folder of images and masks to a problem's `parameters.yml`: what is there, how it pairs, what masks mean."""
