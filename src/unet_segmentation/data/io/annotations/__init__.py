"""Annotation formats, a module each; the name of a module is the value of `masks.encoding`."""
