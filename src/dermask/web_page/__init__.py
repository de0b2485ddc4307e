"""A web page that outlines photographs in the browser: made as a folder that any web server can offer."""
