"""Scripted demos: files that say what to tell, what to run and what must hold; and what plays them."""
