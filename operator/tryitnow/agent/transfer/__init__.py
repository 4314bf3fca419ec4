"""Archives between agents, over HTTPS with the certificate that each agent publishes."""
