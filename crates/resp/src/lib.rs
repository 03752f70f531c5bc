//! RESP2 and RESP3: parsing requests and replies, writing replies, and the number texts of the protocol.
