"""Engine drivers, the HTTP service, batch translation and the web page."""
