"""The drawing page: draw a number in the browser and watch the network read it.

`server` speaks HTTP, `view` computes everything that the page shows for a picture, and `draw.html`
and `draw.js` show it. The other scripts hold what a second page would share: the pad, the boxes of
its digits, the bars, the maps of a layer. The page loads nothing from the network.
"""
