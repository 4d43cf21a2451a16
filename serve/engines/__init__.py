"""Drivers of engines, each behind `tell.model.engine.Engine`."""
