"""IPython magics of Clouditia (`%%clouditia`); the cells they run arrive with a later release."""
