"""The engine: loads models and runs them on views of shared memory. torch is imported here and nowhere else."""
