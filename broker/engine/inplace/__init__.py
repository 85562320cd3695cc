"""In-place plans for graphs: results written by the graph's last ops into the output planes (DESIGN section 6)."""
