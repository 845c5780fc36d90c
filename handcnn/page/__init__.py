"""The pages in the browser: draw a number and see why it is read so; watch a network learn.

`server` speaks HTTP. `view` computes everything that the drawing page shows for a picture, and
`draw.html` and `draw.js` show it. `training_view` and `single_step` do this for the training page,
with `watch.html` and `watch.js`; `watching` connects it with the training. What both share is there
once: the server, the pad and its boxes, the bars, the maps of a layer, the colours. The pages load
nothing from the network.
"""
