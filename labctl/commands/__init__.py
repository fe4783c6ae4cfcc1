"""What the commands do in addition to a plan: choose the lab, run a plan, report on a lab. Each returns values."""
