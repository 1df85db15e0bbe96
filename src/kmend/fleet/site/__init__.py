"""The dashboard: pages made by the server, readable without JavaScript; and the metrics."""
