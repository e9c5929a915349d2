"""Keys of epochs and the store of results by key. Nothing here trains, or knows what a record contains."""
