"""Seeds, devices, resources, figure style, processes, memory and sandboxed execution."""
