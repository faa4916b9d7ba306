"""What a network costs on a device: measured on this one, estimated on a described one."""
