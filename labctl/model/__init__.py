"""Values: the lab, events, errors and reports. Nothing here looks at the world."""
