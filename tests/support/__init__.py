"""What several test files use: fake engines, tiny bases, running services."""
