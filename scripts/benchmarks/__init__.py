"""Measurements behind `pixelq benchmark` and `pixelq acceptance`, and the call path of an observation."""
