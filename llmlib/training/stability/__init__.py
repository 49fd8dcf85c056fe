"""What keeps a run from spikes, and what brings it back from one."""
