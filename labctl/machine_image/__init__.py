"""What a node needs that is a virtual machine: its disk, boxes for Vagrant, and the seed that gives it an identity."""
