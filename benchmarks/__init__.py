"""What can be measured. `make bench` runs it all; figures are CPU time, and ratios of it."""
