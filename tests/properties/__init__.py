"""Property tests: each states what holds for any input, which hypothesis makes up."""
