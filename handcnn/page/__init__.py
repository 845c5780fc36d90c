"""The drawing page: draw a digit in the browser and watch the network read it.

`server` speaks HTTP, `view` computes everything that the page shows for a picture, and `page.html`,
`page.css` and `page.js` show it. The page loads nothing from the network.
"""
