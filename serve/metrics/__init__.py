"""What is counted: for Prometheus, and of the live traffic."""
