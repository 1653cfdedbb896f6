"""What people look at: pictures (PIL), charts (Plotly) and the report (HTML). Nothing here counts or trains."""
