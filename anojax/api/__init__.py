"""The Python front door: what the commands do, as functions of plain values.

They are reached from the package itself: `anojax.synthesize`, `anojax.train`,
`anojax.evaluate`, `anojax.load`, `anojax.verify`, `anojax.preview`, `anojax.show`.
"""
