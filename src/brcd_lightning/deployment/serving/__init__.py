"""Search in an image index over HTTP: a web page and a JSON API."""
