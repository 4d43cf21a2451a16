"""`tellmt compare`: outputs of several systems side by side."""
