"""What any program needs: console, clock, threads, processes, provenance, and repairs of upstream packages."""
