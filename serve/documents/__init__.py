"""Documents as jobs: uploaded, translated part by part, fetched."""
