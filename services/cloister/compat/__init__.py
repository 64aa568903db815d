"""Faces that programs written for other serving systems know, over the sealed SDK."""
