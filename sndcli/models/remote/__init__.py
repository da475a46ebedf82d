"""Models behind an address: asked over HTTP, one request after the other or several at a time."""
