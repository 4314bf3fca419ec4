"""A demo's life on this node: started, personalized, probed, started again, reset, removed."""
