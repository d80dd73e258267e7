# A group comes into being with its first member, which gets everything; the next ones get their share.
> topic rings 4
> join a rings
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
  tell a, epoch 3: reads [rings/0 since 3, rings/1 since 3, rings/2 since 3, rings/3 since 3]
> join b rings
  joined, epoch 4
  assigned, 2 to move
  tell a, epoch 5: reads [rings/0 since 3, rings/1 since 3], gives back [rings/2, rings/3]
> give-back a
  acknowledged, 2 free
  tell a, epoch 5: reads [rings/0 since 3, rings/1 since 3]
  tell b, epoch 6: reads [rings/2 since 6, rings/3 since 6]
> leave b
  left
  b is none any more: left
  assigned, 0 to move
  tell a, epoch 7: reads [rings/0 since 3, rings/1 since 3, rings/2 since 7, rings/3 since 7]
