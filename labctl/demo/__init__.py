"""Scripted demos: scenes with text, commands and expectations, which are played in a lab and can be recorded."""
