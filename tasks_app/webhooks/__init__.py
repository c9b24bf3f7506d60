"""Who is told how a task ended: deliveries as rows, letters that are signed, calls that are guarded."""
