"""The drawing page: draw a digit in the browser and watch the network read it.

`server` speaks HTTP, `view` turns a picture into everything that is shown, and `page.html`,
`page.css` and `page.js` show it. Nothing comes from anywhere else.
"""
