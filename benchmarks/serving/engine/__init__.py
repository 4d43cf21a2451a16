"""What `engine_bench.py` consists of: the two builds as processes, the figures, what others offer, and the table of results."""
