"""From parallel files to a clean corpus with a frozen split."""
