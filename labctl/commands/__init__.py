"""What the commands do beyond a plan: which lab is meant, how a plan is run, and what a lab is like. Each returns values."""
