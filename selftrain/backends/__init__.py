"""The parts that import heavy libraries: samplers, trainers, worker processes, the sandbox."""
