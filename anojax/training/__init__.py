"""Training: strategies over devices, the loop, checkpoints, logs. Sees only a Task."""
