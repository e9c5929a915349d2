"""What will run, before it runs: trials, shared epochs, costs, capacity and suggested points. Nothing here trains."""
