"""What keeps the node true: what nobody owns is removed, and what is here is told."""
