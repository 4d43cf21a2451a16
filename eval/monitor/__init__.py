"""What watches a live system: canary sets, their history, drift of the input, corrections as scores, and alarms."""
