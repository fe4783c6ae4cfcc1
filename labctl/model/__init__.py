"""Values: the lab, events, errors and reports. Nothing here reads or changes the machine."""
