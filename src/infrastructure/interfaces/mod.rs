//! What a market-data provider must offer.
