/** A worker whose script throws before it serves anything. */
throw new Error('thrown at the top level');
